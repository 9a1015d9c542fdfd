"""Guest memory: blocks, runs of pages, dirty bitmaps, kernels. No streams, no wire flags."""
