"""Details of the operating system: signals, disks, files and POSIX errors. It imports nothing of popug."""
