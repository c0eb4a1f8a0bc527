"""What notebook 10, the real thing, alone needs: its figures, its experiments, its exercises."""
