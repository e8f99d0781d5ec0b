"""The Xet write path: clients send xorbs, which are runs of compressed chunks, and a shard that joins them to files."""
