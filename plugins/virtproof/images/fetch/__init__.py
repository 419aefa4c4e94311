"""Images from their publishers: downloaded, held against digest and signature, and only then used."""
