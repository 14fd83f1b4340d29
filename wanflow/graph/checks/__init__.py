"""What can only be said of a graph as a whole: its edges, its order, its unused parts."""
