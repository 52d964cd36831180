class EidPattern:
    def __init__(self, t): self.t = t
    @classmethod
    def parse(cls, t): return cls(t)
    def __eq__(self, o): return self.t == o.t
    def __hash__(self): return hash(self.t)
    def matches(self, eid):
        t = self.t.replace("ipn:0.", "ipn:")
        return str(eid).startswith(t.rstrip("*"))
    @property
    def specificity(self): return (len(self.t),)
    def __str__(self): return self.t
