"""What notebook 09, robustness and uncertainty, alone needs: its figures, its experiments, its exercises."""
