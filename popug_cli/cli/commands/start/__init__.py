"""Commands to start with: welcome, today, the dashboard, the demo and the manual page."""
