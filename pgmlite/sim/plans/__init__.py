"""Plans that come with pgmlite: those behind the figures that its texts quote."""
