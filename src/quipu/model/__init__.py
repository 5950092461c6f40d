"""What a Llama is: its configuration, its files, its text formats, and (in the files that import torch) its network."""
