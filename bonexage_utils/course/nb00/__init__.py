"""What notebook 00, start here, alone needs: its figures, its experiments, its exercises."""
