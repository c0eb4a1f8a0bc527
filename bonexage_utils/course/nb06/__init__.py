"""What notebook 06, bounded ages, alone needs: its figures, its experiments, its exercises."""
