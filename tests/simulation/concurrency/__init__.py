"""Many concurrent processes on one home: no command fails, nothing is lost, the books balance."""
