"""What pytest needs at the root; the plugin itself comes by its entry point."""

pytest_plugins = ["pytester"]
