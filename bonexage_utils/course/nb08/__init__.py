"""What notebook 08, error analysis, alone needs: its figures, its experiments, its exercises."""
