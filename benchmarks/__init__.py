"""What is measured, and the programs that measure it; no part of the installed package."""
