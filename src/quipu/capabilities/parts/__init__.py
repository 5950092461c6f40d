"""What several capabilities share. The files of the folder above are capabilities; these are not."""
