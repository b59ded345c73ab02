"""Making datasets: recorded, collected with a behaviour team, mixed, made again, or downloaded."""
