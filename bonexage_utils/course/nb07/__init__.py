"""What notebook 07, AMP and GPU training, alone needs: its figures, its experiments, its exercises."""
