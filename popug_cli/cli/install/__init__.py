"""Installation of the scheduler and the server as services of the operating system."""
