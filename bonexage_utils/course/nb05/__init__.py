"""What notebook 05, gender fusion, alone needs: its figures, its experiments, its exercises."""
