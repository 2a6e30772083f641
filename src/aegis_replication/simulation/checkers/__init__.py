"""What must hold in every simulated run, observed from outside the code that is to keep it."""
