"""The admin pages in a real browser: headless Chromium beside a live server."""
