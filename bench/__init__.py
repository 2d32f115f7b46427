"""Measures Hubbub against plain programs that do the same, on the same machine, in the same minute.

`python -m bench` runs everything; README.md says what each number means.
"""
