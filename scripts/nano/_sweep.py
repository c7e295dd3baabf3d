import json, random, time, torch, sys
from transformers import AutoTokenizer, AutoConfig, AutoModelForCausalLM
F="swiftlite/models/nano"; t=AutoTokenizer.from_pretrained(F); D="cuda" if torch.cuda.is_available() else "cpu"
print(type(t).__name__, t("Add 12 and 3. e\u0301").input_ids)
load=lambda n:[json.loads(l)["messages"] for l in open(f"swiftlite/data/embedded/{n}.jsonl")]
demo,ev=load("demo"),load("demo-eval")
def enc(ms):
    o=t.apply_chat_template(ms,return_dict=True,return_assistant_tokens_mask=True)
    return o["input_ids"],[i if k else -100 for i,k in zip(o["input_ids"],o["assistant_masks"])]
def collate(b):
    n=max(len(i) for i,_ in b)
    return dict(input_ids=torch.tensor([i+[0]*(n-len(i)) for i,_ in b]).to(D),labels=torch.tensor([l+[-100]*(n-len(l)) for _,l in b]).to(D),attention_mask=torch.tensor([[1]*len(i)+[0]*(n-len(i)) for i,_ in b]).to(D))
def reply(m,ms):
    ids=t.apply_chat_template(ms,add_generation_prompt=True,return_tensors="pt",return_dict=True).to(D)
    o=m.generate(**ids,max_new_tokens=32,do_sample=False,eos_token_id=2,pad_token_id=0)
    return t.decode(o[0,ids["input_ids"].shape[1]:],skip_special_tokens=True)
def run(LR,B,EP,seed=0,wd=0.1):
    torch.manual_seed(seed); random.seed(seed); data=[enc(x) for x in demo]
    m=AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(F)).to(D)
    opt=torch.optim.AdamW(m.parameters(),lr=LR,weight_decay=wd,betas=(0.9,0.95)); step=0; total=EP*-(-len(data)//B); per=[]
    for ep in range(EP):
        random.shuffle(data); s=0
        for k in range(0,len(data),B):
            for g in opt.param_groups: g["lr"]=LR*min(1,(step+1)/30)*max(0.02,1-step/total)
            l=m(**collate(data[k:k+B])).loss; l.backward(); torch.nn.utils.clip_grad_norm_(m.parameters(),1.0); opt.step(); opt.zero_grad(); step+=1; s+=l.detach()*B/len(data)
        per.append(round(float(s),2))
    m.eval(); R=[(x[0]["content"],x[1]["content"],reply(m,x[:1])) for x in ev]
    ok=sum(a==r for _,a,r in R); print(f"lr {LR} B {B} epochs {EP} steps {step}: eval {ok}/60",per,flush=True); return R
if __name__=="__main__":
    for EP in (8,12):
        for B in (4,8,16):
            for LR in (5e-4,1e-3,2e-3):
                R=run(LR,B,EP)
                if B==8 and LR==1e-3: print([(q,r) for q,a,r in R if a!=r])
