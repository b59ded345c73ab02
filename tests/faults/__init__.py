"""What a run survives, and what it refuses: processes killed, disks filled, files damaged, numbers and worlds gone bad.

``make faults`` runs all of it and prints the counts; ``tests/faults/test_faults.py`` runs a little of each.
"""
