"""What a training run will see: statistics, suspicious labels, contact sheets."""
