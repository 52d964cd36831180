"""What benches share: figures, alternating runs, the machine's description, real agents as child processes."""
