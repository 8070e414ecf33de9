# Makes the models, rows and predictions of fixtures.tar.gz, in gen/, with the
# libraries themselves: pip install lightgbm==4.7.0 xgboost-cpu==3.2.0 numpy
import json
import os

import numpy as np
import lightgbm as lgb
import xgboost as xgb

os.makedirs('gen',exist_ok=True)
r=np.random.default_rng(5)
n=400
def data(missing, cats, zeros=False):
    X=r.normal(size=(n,6)).round(3)
    if zeros: X[r.random(X.shape)<.4]=0
    if cats: X[:,2]=r.integers(0,40,n); X[:,5]=r.integers(0,300,n)
    if missing: X[r.random(X.shape)<.15]=np.nan
    y=np.nan_to_num(X[:,0])+.5*(np.nan_to_num(X[:,2])%3)-np.nan_to_num(X[:,1])*np.nan_to_num(X[:,3])+.3*r.normal(size=n)
    return X,y
def rows(X):
    Z=X[:60].copy()
    Z[:10]=np.where(r.random((10,6))<.3,np.nan,Z[:10])
    Z[10,2]=-1; Z[11,2]=1000; Z[12,5]=7.6; Z[13]=0; Z[14]=np.nan
    return Z
def save(name,Z,P):
    np.savetxt(f'gen/{name}.rows.tsv',Z,fmt='%.17g',delimiter='\t'); np.savetxt(f'gen/{name}.pred.tsv',np.asarray(P).reshape(len(Z),-1),fmt='%.17g',delimiter='\t')
def L(name,params,X,y,cat='auto',raw=False):
    p=dict(verbose=-1,num_leaves=9,min_data_in_leaf=5,min_data_per_group=5,cat_smooth=1,deterministic=True,num_threads=1); p.update(params)
    b=lgb.train(p,lgb.Dataset(X,y,categorical_feature=cat),12)
    Z=rows(X); b.save_model(f'gen/{name}.txt'); json.dump(b.dump_model(),open(f'gen/{name}.json','w'))
    save(name,Z,b.predict(Z))
X,y=data(True,False); L('lgb_missing_nan',{'objective':'regression'},X,y)
X,y=data(False,False,True); L('lgb_missing_zero',{'objective':'regression','zero_as_missing':True},X,y)
X,y=data(True,True); L('lgb_categorical',{'objective':'binary'},X,(y>0)*1.,[2,5])
X,y=data(False,True); L('lgb_categorical_nomissing',{'objective':'poisson'},X,np.exp(y/4),[2,5])
X,y=data(True,False); L('lgb_rf',{'objective':'binary','boosting':'rf','bagging_freq':1,'bagging_fraction':.6},X,(y>0)*1.)
X,y=data(True,False); L('lgb_multiclassova',{'objective':'multiclassova','num_class':3},X,np.digitize(y,[-.5,.8]))
X,y=data(True,False); L('lgb_sqrt',{'objective':'regression','reg_sqrt':True},X,y)
X,y=data(True,False); L('lgb_xentlambda',{'objective':'cross_entropy_lambda'},X,1/(1+np.exp(-y)))
def G(name,params,X,y,rounds=12,types=None):
    p=dict(max_depth=4,eta=.3,nthread=1); p.update(params)
    d=xgb.DMatrix(X,y,feature_types=types,enable_categorical=types is not None)
    b=xgb.train(p,d,rounds); Z=rows(X)
    if types is not None: Z[10,2]=3; Z[11,2]=39; Z[12,5]=7
    b.save_model(f'gen/{name}.json'); b.save_model(f'gen/{name}.ubj')
    save(name,Z,b.predict(xgb.DMatrix(Z,feature_types=types,enable_categorical=types is not None)))
    np.savetxt(f'gen/{name}.leaf.tsv',b.predict(xgb.DMatrix(Z,feature_types=types,enable_categorical=types is not None),pred_leaf=True).reshape(len(Z),-1),fmt='%d') if p.get('booster')!='gblinear' else None
X,y=data(True,False); G('xgb_reg',{'objective':'reg:squarederror'},X,y)
X,y=data(True,False); G('xgb_logistic',{'objective':'binary:logistic'},X,(y>0)*1.)
X,y=data(True,False); G('xgb_softprob',{'objective':'multi:softprob','num_class':3},X,np.digitize(y,[-.5,.8]))
X,y=data(True,False); G('xgb_dart',{'objective':'reg:squarederror','booster':'dart','rate_drop':.3},X,y)
X,y=data(True,False); G('xgb_poisson',{'objective':'count:poisson'},X,np.floor(np.exp(y/3)))
X,y=data(False,False); G('xgb_linear',{'objective':'reg:squarederror','booster':'gblinear'},X,y)
X,y=data(True,True); G('xgb_categorical',{'objective':'reg:squarederror','max_cat_to_onehot':4},X,y,types=['q','q','c','q','q','c'])
X,y=data(True,False); G('xgb_multi_target',{'objective':'reg:squarederror'},X,np.stack([y,-y*2],1))
