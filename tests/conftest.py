"""What holds for every test: Ctrl-C reaches the programs that a test starts, also where the test run was put aside."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell lets what it starts in the background ignore the interrupt, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
