"""The API as data: calls, answers and the checks of what goes into them. No I/O."""
