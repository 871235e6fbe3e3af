"""What a person reads: the verdict, the picture, the page. Nothing of the loop imports it."""
