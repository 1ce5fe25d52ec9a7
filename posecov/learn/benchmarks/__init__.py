"""What the method costs: functions that return flat dictionaries of numbers, printed by `tools/benchmark.py`."""
