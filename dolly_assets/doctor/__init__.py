"""What keeps this deployment from training, looked for before anything is trained."""
