"""What a training will need, before anything is booked: memory, disk, time, money."""
