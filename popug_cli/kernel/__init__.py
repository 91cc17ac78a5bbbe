"""What every part of popug needs and that needs no part of popug: money, time, chance, text, errors, settings."""
