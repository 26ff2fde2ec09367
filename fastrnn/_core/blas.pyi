vendor: str
