"""What notebook 01, data exploration, alone needs: its figures, its experiments, its exercises."""
