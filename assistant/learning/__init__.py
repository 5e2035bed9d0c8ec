"""What runs beside answering so that answers get better: captured calls, feedback, and the review desk."""
