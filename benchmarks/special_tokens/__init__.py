"""Are backward markers too easy?"""
