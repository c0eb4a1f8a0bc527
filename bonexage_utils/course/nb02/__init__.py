"""What notebook 02, from pixels to batches, alone needs: its figures, its experiments, its exercises."""
