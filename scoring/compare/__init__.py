"""`ride compare`: two runs of `ride score` over the same images.

- `runs`, `pairing`: rows of finished runs, and which are about the same image
- `counts`, `statistics`: what differs, block by block, and what that says
- `session`, `report`: the whole of it, and how it is shown
"""
