"""Transship's disk sections: the contents of disks, and their dirty bitmaps."""
