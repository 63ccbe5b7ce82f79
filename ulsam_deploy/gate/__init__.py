"""The gate of deployment CI: is one build slower, larger or less right than another?"""
