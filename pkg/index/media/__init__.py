"""Facts in media files: sizes, dates, places, tags. Small bounded parsers that trust nothing.

Every public function takes a `Source` and answers None (or nothing) for data that it can't read:
a broken picture is stored like any other, it only has no facts.
"""
