"""What a person reads: the verdict, the plots, the pages. Nothing of the loop imports it."""
