"""What notebook 03, a first network, alone needs: its figures, its experiments, its exercises."""
