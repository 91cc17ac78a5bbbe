"""Tests with several Kafka brokers, and the program that starts these."""
