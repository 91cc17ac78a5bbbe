"""Five linked homes: services that share no database, with topics in memory, under chaos."""
