"""What the site adds to the Markdown of docs/."""
