"""What several tests use: random episodes and teams, small runs, archives, damaged files."""
