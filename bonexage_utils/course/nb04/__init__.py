"""What notebook 04, GeM pooling, alone needs: its figures, its experiments, its exercises."""
