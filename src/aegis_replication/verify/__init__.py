"""Do real nodes keep their promises under real faults? Histories of clients, faults on processes, and the judgement."""
