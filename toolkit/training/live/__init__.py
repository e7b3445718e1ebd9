"""Runs that train beside a page: in a thread or a process, with snapshots of their state."""
