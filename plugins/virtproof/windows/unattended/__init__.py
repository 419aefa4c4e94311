"""A Windows installed from its own medium, unattended: medium, answers, machine, sealed image."""
