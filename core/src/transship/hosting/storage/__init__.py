"""What an operator does with a guest's disks beside a migration: mirrors them, and exports them."""
