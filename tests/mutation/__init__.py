"""Tests of the tests: does a test fail when a line of the program is changed?"""
